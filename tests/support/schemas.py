"""Strict schemas for the Kubernetes and Kubeflow files in `launch/`, which list all names that each used object may have.

    python tests/support/schemas.py PROJECT/launch/kubernetes.yaml $(python -c 'import kubernetes_validate as k; print(k.__path__[0])')
    python tests/support/schemas.py PROJECT/launch/kubeflow.yaml trainer/manifests/base/crds

The first come from the package `kubernetes-validate`, the second from the custom resource definitions in the repository
kubeflow/trainer. The full schemas have megabytes, so these leave out the insides of objects that the files do not use.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parents[1] / "templates" / "schemas"
_KEPT = ("type", "enum", "required", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")


def pruned(schema: Any, values: list[Any], definitions: dict[str, Any]) -> Any:
    """The part of a schema that `values` use, without descriptions; it refuses unknown names."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {key: schema[key] for key in _KEPT if key in schema}
    if "oneOf" in schema:
        found["oneOf"] = [pruned(one, values, definitions) for one in schema["oneOf"]]
    if items := schema.get("items"):
        found["items"] = pruned(items, [part for value in values for part in value], definitions)
    if properties := schema.get("properties"):
        found["additionalProperties"] = False
        found["properties"] = {
            name: (
                pruned(its, used, definitions) if (used := [value[name] for value in values if name in value]) else True
            )
            for name, its in properties.items()
        }
    elif isinstance(others := schema.get("additionalProperties"), dict):
        found["additionalProperties"] = pruned(others, [v for value in values for v in value.values()], definitions)
    return found


def load(name: str) -> dict[str, Any]:
    schemas: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return schemas


def problems(text: str, schemas: dict[str, Any]) -> list[str]:
    """What is wrong in a file of several documents."""
    return [
        f"{error.json_path}: {error.message}"
        for document in yaml.safe_load_all(text)
        for error in Draft202012Validator(schemas[f"{document['apiVersion']} {document['kind']}"]).iter_errors(document)
    ]


def main(file: Path, source: Path) -> None:
    found = {}
    metadata = {"type": "object", "properties": {key: {} for key in ("name", "namespace", "labels", "annotations")}}
    for document in yaml.safe_load_all(file.read_text()):
        kind, version = document["kind"], document["apiVersion"]
        definitions: dict[str, Any] = {}
        if crds := sorted(source.glob(f"*_{kind.lower()}s.yaml")):
            definition = yaml.safe_load(crds[0].read_text())["spec"]["versions"][0]
            schema = definition["schema"]["openAPIV3Schema"]
            schema["properties"]["metadata"] = metadata
        else:
            newest = max(source.glob("kubernetes-json-schema/v*-local-strict"), key=lambda path: [*map(ord, path.name)])
            schema = json.loads((newest / f"{kind.lower()}-{version.replace('/', '-')}.json").read_text())
            definitions = json.loads((newest / "_definitions.json").read_text())["$defs"]
        found[f"{version} {kind}"] = pruned(schema, [document], definitions)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{file.stem}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
