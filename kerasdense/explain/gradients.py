"""Gradients of a model's outputs to its images, on the TensorFlow and the JAX backend."""

import keras


def on_pixels(model, outputs=None):
    """The model as a function of float images [B, H, W, 3], pixels 0 to 255, to differentiate.

    The model itself rounds its input to uint8, through which no gradient passes; this function
    runs the same layers, as in inference, on the pixels as they are. It is for use inside
    `compiled`, or eagerly.

    Args:
        model: a `keras.Model` of one input.
        outputs: symbolic tensors of the model (a tensor, or a list or dict of them), such as
            `layer_output(model, "conv1_relu")`; None is the model's output.
    """
    return keras.Function(model.inputs[0], model.output if outputs is None else outputs)


def layer_output(model, name):
    """The symbolic output of the model's layer `name`.

    Raises: ValueError if there is none, with the names that there are.
    """
    names = [layer.name for layer in model.layers]
    if name not in names:
        raise ValueError(
            f'The model "{model.name}" has no layer "{name}". It has: {", ".join(names)}.'
        )
    return model.get_layer(name).output


def value_and_gradient(function, x):
    """A function's value at `x` and its gradient there: (value, others), gradient.

    Args:
        function: `(x) -> (value, others)`, a scalar tensor and whatever else is to be kept.
        x: float tensor.

    Raises: ValueError if the value does not depend on x by differentiable operations.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value, others = function(x)
        gradient = tape.gradient(value, x)
        if gradient is None:
            raise ValueError(
                "No gradient reaches the images: somewhere the model rounds or casts to integers. "
                "Expected differentiable layers from the images to what is optimized."
            )
        return (value, others), gradient
    import jax

    return jax.value_and_grad(function, has_aux=True)(x)


def compiled(function, model, xla=False):
    """`function` of tensors, which calls `model`, as a program of the backend.

    Args:
        function: takes and returns tensors (or nests of them) and draws no random numbers from
            generators that hold state.
        model: the `keras.Model` whose weights the function reads; each call reads them anew.
        xla: on TensorFlow, whether to compile with XLA, one program for each shape; without it,
            shapes that change become unknown ones. JAX always compiles.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Without AutoGraph, which would wrap errors in a trace of the user's code.
        return tf.function(function, jit_compile=xla, reduce_retracing=not xla, autograph=False)
    import jax

    variables = model.variables

    @jax.jit
    def program(values, *arguments):
        # As arguments, weights are no constants of the program, which would hold a copy of them.
        with keras.StatelessScope(state_mapping=list(zip(variables, values))):
            return function(*arguments)

    return lambda *arguments: program([variable.value for variable in variables], *arguments)
