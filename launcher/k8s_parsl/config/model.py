"""The base of every model that is read from YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from k8s_parsl.config.helm_yaml import TOO_DEEP, read_yaml
from k8s_parsl.config.nearest import did_you_mean, keys_at
from k8s_parsl.config.refusals import Location, faults
from k8s_parsl_runtime.shared.errors import DataError, Failure, UsageError


class Model(BaseModel):
    """Frozen, strict (no "3" for 3), and a key it does not know is an error that names the key."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        # YAML reads 1e400 as infinity.
        allow_inf_nan=False,
    )

    @classmethod
    def parse(cls, data: Mapping[str, Any], source: str, *, by_name: bool = True) -> Self:
        """Return the model of ``data``.

        Args:
            data: what YAML gives.
            source: where it is from, for messages.
            by_name: accept Python's names of the keys, too.

        Raises:
            UsageError: a key is unknown or missing, or a value is wrong; names ``source`` and key.
            DataError: its values are nested too deeply.
        """
        try:
            # By way of JSON, strict mode accepts a YAML list for a tuple, but still no "3" for a 3.
            return cls.model_validate_json(json.dumps(data), by_alias=True, by_name=by_name)
        except ValidationError as error:
            raise cls._refusal(error, data, source) from None
        except RecursionError:
            raise DataError(f"{source}: {TOO_DEEP}") from None
        except TypeError as error:
            raise UsageError(f"{source}: only plain YAML values are allowed: {error}") from None

    @classmethod
    def _refusal(cls, error: ValidationError, data: Mapping[str, Any], source: str) -> Failure:
        first, *others = faults(error.errors(), data)
        if first.is_depth:
            return DataError(f"{source}: {TOO_DEEP}")
        line = f"{source}: {first}"
        if first.is_unknown_key:
            line += cls._nearest(first.location)
        if others:
            line += f" (and {len(others)} more)"
        return UsageError(line)

    @classmethod
    def _nearest(cls, location: Location) -> str:
        *place, key = location
        return did_you_mean(str(key), keys_at(cls.model_json_schema(), place))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Return the model of a mounted YAML file.

        Raises:
            DataError: no such file, or not YAML.
            UsageError: see `parse`.
        """
        return cls.parse(read_yaml(path), str(path))
