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

# A Jetson Orin Nano with JetPack 6.2, as its kernel 5.15 and its packages describe it.
JETSON_ORIN = {
    "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, "
    "EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n",
    "/etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "/proc/cpuinfo": "".join(
        f"processor\t: {core}\nFeatures\t: fp asimd aes crc32 atomics fphp asimdhp asimddp\n"
        "CPU implementer\t: 0x41\nCPU part\t: 0xd42\n\n"
        for core in range(6)
    ),
    "/proc/meminfo": "MemTotal:        7802100 kB\nMemAvailable:    6100000 kB\n"
    "SwapTotal:       3901040 kB\n",
    "/proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    "/dev/zram0                              partition\t650172\t\t0\t\t5\n",
    "/proc/loadavg": "0.10 0.10 0.10 1/300 900\n",
    "/etc/group": "root:x:0:\nvideo:x:44:user\nrender:x:104:user\ni2c:x:116:user\ndocker:x:999:\n",
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "/sys/class/thermal/thermal_zone0/temp": "48500\n",
    "/sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "/sys/class/thermal/thermal_zone1/temp": "47250\n",
    _CPU + "governor": "schedutil\n",
    _CPU + "min_freq": "1510400\n",
    _CPU + "max_freq": "1510400\n",
    _CPU + "cur_freq": "1510400\n",
    "/sys/class/devfreq/17000000.gpu/min_freq": "1020000000\n",
    "/sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "/sys/class/devfreq/17000000.gpu/cur_freq": "1020000000\n",
    "/var/lib/nvpmodel/status": "pmode:0002\n",
    "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n"
    "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< POWER_MODEL ID=3 NAME=7W >\n",
    "/usr/lib/aarch64-linux-gnu/libnvinfer.so.10": "",
    "/usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
    "/usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.20240801"}}\n',
    "/var/lib/dpkg/status": "Package: nvidia-jetpack\nStatus: install ok installed\n"
    "Architecture: arm64\nVersion: 6.2+b77\n\n"
    "Package: libnvinfer10\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n\n"
    "Package: libnvinfer8\nStatus: deinstall ok config-files\nVersion: 8.6.2.3-1+cuda12.2\n\n"
    "Package: python3-libnvinfer\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n",
}
# A desktop of the Nano's JetPack, as its kernel shows its programs: 15 letters of the name.
NANO_DESKTOP = {
    "/proc/4711/comm": "gnome-shell\n",
    "/proc/4711/status": "Name:\tgnome-shell\nVmRSS:\t  310000 kB\n",
    "/proc/4800/comm": "Xorg\n",
    "/proc/4800/status": "Name:\tXorg\nVmRSS:\t   90000 kB\n",
    "/proc/5000/comm": "python3\n",
    "/proc/5000/status": "Name:\tpython3\nVmRSS:\t  900000 kB\n",
}
