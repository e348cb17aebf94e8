"""VGG with 16 layers on ImageNet, Simonyan & Zisserman 2015: net D of Tables 3 to 7.

    python -m deepconv.main --config=configs/vgg16.py
    python -m deepconv.main --config=configs/vgg16.py --config.model.initialization=normal --init_from=RUN_OF_VGG11
        --init_layers=conv1_1,conv2_1,conv3_1,conv3_2,fc6,fc7,fc8

The first command uses Glorot & Bengio's initialisation, which the authors found later to work as well. The second
follows the paper: it takes the first four convolutions and the last three layers from a trained net A; the rest is
random. The four are matched by name: matched by position, the shapes of A's convolutions and of a deeper net's differ.
To continue at S=384: --init_from=RUN_OF_VGG16 --config.optimizer.learning_rate=1e-3, with the flags for S below

Related: vgg11 (A), vgg11_lrn (A-LRN), vgg13 (B), vgg16_1x1 (C), vgg19 (E), vgg13_5x5 (the shallow net of section 4).
The paper's errors in percent, top-1 and top-5, on the validation set:
    --evals=dense_q256             27.0 and 8.8 (Table 3)
    --evals=dense_q224_256_288     26.6 and 8.6 (Table 4)
S, the shorter side in training: --config.data.train_scale=384,384 or 256,512, with --config.data.test_scale=384.
Errors of the net trained at 256,512 (Tables 4 and 5):
    --evals=dense_q256_384_512     24.8 and 7.5        --evals=multi_crop_dense     24.4 and 7.2
`python -m deepconv.data.prepare imagenet2012` prepares ImageNet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the recipe of section 3.1."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 256
    config.total_steps = 370_000
    config.log_every_steps = 100
    config.eval_every_steps = 5_000
    config.checkpoint_every_steps = 5_000

    config.model = ConfigDict()
    config.model.name = "vgg"
    config.model.configuration = "D"
    config.model.initialization = "glorot"
    config.model.dropout = 0.5
    config.model.dtype = "float32"  # of activations; "bfloat16" is faster on accelerators

    config.data = ConfigDict()
    config.data.name = "imagenet2012"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.image_size = 224
    config.data.mean = "channel"
    config.data.std = "none"  # or "channel", or three numbers: the divisor after subtraction of the mean
    config.data.train_scale = (256, 256)  # S, the range of the shorter side in pixels; also 384,384 and 256,512
    config.data.test_scale = 256
    config.data.central_square = False
    config.data.augment = "crop_flip"
    config.data.lighting = "eigenvalue"  # shifts colours along their principal components
    config.data.on_corrupt = "fail"  # or "replace": takes the next image that can be decoded

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.01
    # "decreased by a factor of 10 when the validation set accuracy stopped improving ... 3 times", at unknown steps
    config.optimizer.drop_at_steps = (100_000, 200_000, 300_000)
    config.optimizer.drop_factor = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.ema_decay = 0.0  # 0: none; with 0.999, tests use moving averages of the weights
    return config
