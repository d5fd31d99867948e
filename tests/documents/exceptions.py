"""What is not run as it is written: commands that take hours, need other machines, or show a form only."""

from __future__ import annotations

from tests.documents.running import Instead

_GQA = (
    "mdetr evaluate gqa-balanced --set data.validation.testdev.store=stores/gqa-submission "
    "--submission answers.json"
)
_OWN_PHOTOS = (
    "mdetr train photo-tiny --set data.train.0.store=stores/mine-train "
    "--set data.validation.names.store=stores/mine-val "
    "--set data.validation.composed.store=stores/mine-composed"
)
_LARGE = "mdetr train finetune --set data=mine.jsonl --set model=pretrained-r101"
_GERMAN = "mdetr train finetune --set data=shapes/german.jsonl --set model=clevr-tiny"
_LABEL = "mdetr label photos labels --classes 'cat, dog, person, bicycle'"
_WITHOUT_TORCH = (
    "pip install numpy httpx huggingface-hub jaxtyping matplotlib pillow regex rich tokenizers typer openvino"
)
_SERVES = "serves until it is stopped; tests/app starts the page"
_SERVES_HTTP = "serves until it is stopped; tests/server starts the server"
_REQUESTS = "needs the server; tests/server sends such requests"
_REFCOCO = "mdetr data import refcoco ANNOTATIONS stores"
_QUICK = "--set optimizer.batch_size=2 --dry-run"
_QUICKEST = "--set optimizer.batch_size=1 --set data.texts_per_image=1 --dry-run"

EXCEPTIONS: dict[str, dict[str, Instead]] = {
    "README.md": {
        "make demo": Instead("sets up an environment; its command is run as the first of the command line's"),
        "make test": Instead("runs this very test"),
        "mdetr app --open": Instead(_SERVES),
        "mdetr data synthesize clevr stores/clevr --scenes 24000 --seed 1 --split train": Instead(
            "draws for an hour", "mdetr data synthesize clevr stores/clevr --scenes 2 --seed 1 --split train"
        ),
        "mdetr data synthesize clevr stores/clevr --scenes 1000 --seed 2 --split val": Instead(
            "draws for minutes", "mdetr data synthesize clevr stores/clevr --scenes 2 --seed 2 --split val"
        ),
        "mdetr train clevr-tiny": Instead("trains for hours", f"mdetr train clevr-tiny {_QUICK}"),
        _LARGE: Instead("trains for minutes", f"{_LARGE} {_QUICK}"),
    },
    "docs/app.md": {
        "pip install 'mdetr[app]'": Instead("changes the environment"),
        "mdetr app": Instead(_SERVES),
        "mdetr app --host 0.0.0.0 --port 8000": Instead(_SERVES),
    },
    "docs/data.md": {
        "mdetr data import SOURCE ROOT STORE --split SPLIT": Instead(
            "the form of the call", "mdetr data import jsonl mine.jsonl stores/form --split train"
        ),
        "mdetr data check STORE...": Instead("the form of the call", "mdetr data check stores/form"),
        "mdetr data stats STORE": Instead("the form of the call", "mdetr data stats stores/form"),
        "mdetr data view STORE --output sheet.png": Instead(
            "the form of the call", "mdetr data view stores/form --output sheet.png"
        ),
    },
    "docs/evaluation.md": {
        "mdetr evaluate 'lvis-*'": Instead(
            "scores nine trained models; each recipe is scored in its own test"
        ),
        _GQA: Instead("the recipe's model is large", f"{_GQA} --model gqa-r101"),
    },
    "docs/export.md": {
        "pip install 'mdetr[export]'": Instead("changes the environment"),
        "pip install --no-deps mdetr": Instead("changes the environment"),
        _WITHOUT_TORCH: Instead("changes the environment; tests/export runs with these packages only"),
        "mdetr serve --model exports/clevr-tiny": Instead(_SERVES_HTTP),
        "mdetr export clevr-tiny exports/int8 --precision int8 --calibrate photos": Instead(
            "takes a minute; tests/export calibrates a small model"
        ),
    },
    "docs/fine-tuning.md": {
        "mdetr data synthesize clevr shapes --scenes 400 --seed 7": Instead(
            "draws for a minute", "mdetr data synthesize clevr shapes --scenes 16 --seed 7"
        ),
        "python german.py": Instead("runs the program that the page shows, which is run as a block"),
        _GERMAN: Instead(
            "trains for minutes",
            f"{_GERMAN} --set optimizer.steps=1 --set run.workers=0 --set run.pictures=1",
        ),
        f"{_LARGE} --dry-run": Instead("times large batches", f"{_LARGE} {_QUICK}"),
    },
    "docs/labeling.md": {
        "export LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true": Instead("needs Label Studio"),
        "export 'LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=$PWD/labels'": Instead("needs Label Studio"),
        "pip install 'mdetr[ray]'": Instead("changes the environment"),
        f"torchrun --nproc-per-node 4 -m {_LABEL} --to coco": Instead(
            "starts four processes; tests/cli/test_label.py starts two"
        ),
        f"{_LABEL} --to coco --engine ray --workers 2": Instead(
            "starts a cluster; tests/labeling/test_engines.py starts one of two machines"
        ),
    },
    "docs/paper-in-miniature.md": {
        "make miniature CLAIM=protocols": Instead("draws for minutes; tests/tools runs a claim as a process"),
    },
    "docs/recipes.md": {
        **{
            f"{_REFCOCO}/refcoco-{split} --split {split} --images train2014": Instead(
                "the recorded entries are those of train and val",
                f"{_REFCOCO}/refcoco-{split} --split val --images train2014",
            )
            for split in ("testA", "testB")
        },
        "mdetr train refcoco --dry-run": Instead("times large batches", f"mdetr train refcoco {_QUICKEST}"),
        "torchrun --nproc-per-node 8 -m mdetr train refcoco": Instead(
            "trains for hours; tests/training/test_distributed.py starts two processes"
        ),
    },
    "docs/index.md": {"pip install .": Instead("changes the environment")},
    "docs/photo-tiny.md": {
        "pip install '.[photo]'": Instead("changes the environment"),
        "mdetr train photo-tiny --output runs/photo-tiny": Instead(
            "needs a GPU", f"mdetr train photo-tiny {_QUICKEST}"
        ),
        _OWN_PHOTOS: Instead("needs a GPU", f"{_OWN_PHOTOS} {_QUICKEST}"),
    },
    "docs/training.md": {
        _LARGE: Instead("trains for minutes", f"{_LARGE} {_QUICK}"),
        "torchrun --nproc-per-node 8 -m mdetr train RECIPE": Instead(
            "starts eight processes; tests/training/test_distributed.py starts two"
        ),
        "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 "
        "-m mdetr train RECIPE": Instead(
            "starts processes on two nodes; tests/training/test_two_nodes.py starts both on one"
        ),
    },
    "docs/serve.md": {
        "pip install 'mdetr[serve]'": Instead("changes the environment"),
        "mdetr serve --model clevr-tiny": Instead(_SERVES_HTTP),
        "openssl rand -hex -out token 32": Instead("runs another program"),
        "mdetr serve --host 0.0.0.0 --token-file token --rate 120": Instead(_SERVES_HTTP),
        "mdetr serve --model photo-tiny --port 9090": Instead(_SERVES_HTTP),
        "curl -F image=@picture.png -F 'text=a red cube' localhost:8000/ground": Instead(_REQUESTS),
        "curl -F image=@picture.png -F 'names=cube, ball' localhost:8000/detect": Instead(_REQUESTS),
        "export LABEL_STUDIO_URL=http://localhost:8080": Instead("needs Label Studio"),
        "export LABEL_STUDIO_API_KEY=KEY": Instead("needs Label Studio"),
    },
    "docs/synthetic-clevr.md": {
        "pip install 'mdetr[clevr]'": Instead("changes the environment"),
        "mdetr data synthesize clevr shapes --scenes 1000 --seed 1 --split train --workers 2": Instead(
            "draws for minutes",
            "mdetr data synthesize clevr shapes --scenes 2 --seed 1 --split train --workers 2",
        ),
    },
}

FAILURES = {"docs/data.md": frozenset({"mdetr data check train.jsonl val.jsonl"})}  # it finds errors

PLACES = {
    "docs/coming-from-grounding-dino.md": {"IDEA-Research/grounding-dino-tiny": "grounding-dino-tiny"},
    "docs/data.md": {"s3://my-bucket/stores/mine": "stores/embedded"},
}
