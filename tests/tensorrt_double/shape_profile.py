"""IOptimizationProfile: smallest, best and largest shape of each dynamic input.

Tried on NVIDIA's own module (TensorRT-RTX 1.7): ``set_shape`` raises for dimensions that cannot
be and lets a wrong order pass; the disorder is found when the profile is added to a config, which
then logs an error and gives -1. A zero is refused here: versions disagree about it, and nobody
needs it.
"""

from .surface import dims, want


class IOptimizationProfile:
    """Shapes by the name of an input."""

    def set_shape(self, input, min, opt, max):
        want(input, str, "set_shape()")
        shapes = {"min": min, "opt": opt, "max": max}
        ends = {word: dims(shape, "set_shape()") for word, shape in shapes.items()}
        for word, shape in ends.items():
            if any(dim < 1 for dim in shape):
                text = f"Shape provided for {word} is inconsistent with other shapes."
                self._trt.fail(
                    self._logger, f"IOptimizationProfile::setDimensions: {input}: {text}"
                )
                raise RuntimeError(text)
        self._shapes[input] = tuple(ends.values())

    def get_shape(self, input):
        if input not in self._shapes:
            text = "IOptimizationProfile::getDimensions: Error Code 4: API Usage Error"
            text += f" (Cannot get dimensions for input: {input}.)"
            return self._trt.fail(self._logger, text, [])
        return [self._trt.classes["Dims"](shape) for shape in self._shapes[input]]

    def __bool__(self):
        wrong = [name for name, ends in self._shapes.items() if not _is_ordered(*ends)]
        if wrong:
            text = "IOptimizationProfile::isValid: Error Code 4: API Usage Error (Invalid "
            text += f"optimization profiles for input tensors {', '.join(wrong)}, please ensure "
            self._trt.fail(self._logger, text + "that they satisfy MIN<=OPT<=MAX.)")
        return not wrong


def _is_ordered(least, best, most):
    same_rank = len(least) == len(best) == len(most)
    return same_rank and all(a <= b <= c for a, b, c in zip(least, best, most))
