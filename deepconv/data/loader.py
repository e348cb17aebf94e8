"""The main module of loader processes: imports Grain without JAX and Orbax, which no loader process needs.

Eight processes on two cores would wait for these imports for seconds.
"""

import logging

from deepconv import imports

if __name__ == "__mp_main__":  # the name in a process that multiprocessing has started
    logging.disable(logging.WARNING)  # Grain reports that JAX is missing
    with imports.without("jax"):
        import grain  # noqa: F401
    logging.disable(logging.NOTSET)
