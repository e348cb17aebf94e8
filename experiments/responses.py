"""Standard deviations of a net's layer responses, as in Fig. 7 of He et al. 2015.

    python -m experiments.responses --run=RUN_DIR --data_dir=DIR

The command writes responses.json to the run's directory: {"layers": [...], "std": [...]} for the convolutions of a net
for CIFAR-10 in order. A response is the output of a convolution after BatchNorm, before the rectifier or the sum. The
paper does not name the images; here they are the recipe's test split. Deviations are over images, places and channels,
with BatchNorm as in tests.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the slow imports

from absl import flags

from deepconv import cli
from deepconv.config import recipes
from deepconv.run.files import expanded


def main(arguments: list[str]) -> int:
    """Measures the responses of --run and writes its responses.json."""
    try:
        if len(arguments) > 1 or not flags.FLAGS.run:
            raise ValueError("give --run=RUN_DIR, and no other arguments but --data_dir=DIR")
        run = expanded(flags.FLAGS.run)
        recipes.read_run(run)  # raises for a wrong directory
        # Imported here, since `--help` and mistakes need not wait for JAX.
        from deepconv.data import sources
        from deepconv.evaluation import responses
        from deepconv.evaluation.net import load_run

        trained = load_run(run)
        data = trained.data
        if not trained.state.batch_stats or "train_scale" in data:
            raise ValueError(f"{run}: responses need a net with BatchNorm on images of one size, as in Fig. 7")
        source = sources.find(data.name, data.eval_split, cli.DATA_DIR.value, data.image_size)
        responses.write(trained, source, run / "responses.json")
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    return 0


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("run", None, "The run's directory.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
