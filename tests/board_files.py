"""Files of boards that say something about power and heat, for ``doubles.write_tree``.

The layouts are those of the kernels (L4T 32.7: iio; 35 and later: hwmon); the values are
typical ones, made up to be easy to add, and recorded on no board. Readable by Python 3.6.
"""

_IIO = "/sys/bus/i2c/devices/6-0040/iio:device0/"
NANO_INPUT = _IIO + "in_power0_input"
NANO_RAILS = {
    "/sys/bus/i2c/devices/6-0040/name": "ina3221x\n",
    _IIO + "rail_name_0": "POM_5V_IN\n",
    _IIO + "in_voltage0_input": "5040\n",
    _IIO + "in_current0_input": "500\n",
    NANO_INPUT: "2520\n",
    _IIO + "rail_name_1": "POM_5V_GPU\n",
    _IIO + "in_power1_input": "0\n",
    _IIO + "rail_name_2": "POM_5V_CPU\n",
    _IIO + "in_power2_input": "420\n",
}

_HWMON = "/sys/bus/i2c/devices/1-0040/hwmon/hwmon1/"
ORIN_RAILS = {
    "/sys/bus/i2c/devices/1-0040/name": "ina3221\n",
    _HWMON + "in1_label": "VDD_IN\n",
    _HWMON + "in1_input": "5000\n",
    _HWMON + "curr1_input": "1200\n",
    _HWMON + "in2_label": "VDD_CPU_GPU_CV\n",
    _HWMON + "in2_input": "5000\n",
    _HWMON + "curr2_input": "400\n",
    _HWMON + "in3_label": "NC\n",
    _HWMON + "in3_input": "0\n",
    _HWMON + "curr3_input": "0\n",
    _HWMON + "in4_input": "12\n",  # a shunt's voltage, no rail
    _HWMON + "in7_label": "sum of shunt voltages\n",
    _HWMON + "in7_input": "16\n",
}
# What the same chip is below on the way through its driver, as some guides name it.
ORIN_RAILS_BY_DRIVER = {
    name.replace("/i2c/devices/", "/i2c/drivers/ina3221/"): text
    for name, text in ORIN_RAILS.items()
}

_COOLING = "/sys/class/thermal/cooling_device"
_CPU = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_"
NANO_HEAT = {
    _COOLING + "0/type": "pwm-fan\n",
    _COOLING + "0/cur_state": "2\n",
    _COOLING + "1/type": "cpu-balanced\n",
    _COOLING + "1/cur_state": "0\n",
    _COOLING + "2/type": "gpu-balanced\n",
    _COOLING + "2/cur_state": "0\n",
    _CPU + "driver": "tegra_cpufreq\n",
    _CPU + "min_freq": "1479000\n",
    _CPU + "max_freq": "1479000\n",
    _CPU + "cur_freq": "1479000\n",
    "/proc/interrupts": "           CPU0       CPU1       CPU2       CPU3\n"
    " 12:      23411          0          0          0     GICv2 122 Level     other\n"
    " 67:          3          0          1          0     GICv2  83 Level     soctherm_edp\n",
}
ORIN_HEAT = {
    _COOLING + "0/type": "cpu-throttle-alert\n",
    _COOLING + "0/cur_state": "0\n",
    _COOLING + "1/type": "hot-surface-alert\n",
    _COOLING + "1/cur_state": "1\n",
    "/sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
    "/sys/class/hwmon/hwmon3/oc3_event_cnt": "7\n",
}
