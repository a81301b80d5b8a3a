"""The upload protocol step by step: a few of all combinations here, a hundred times each as a command:

python -m tests.faults --steps 100 --seed N
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.step_cases import case_of, replacing_cases, sample
from tests.faults.steps import play

if TYPE_CHECKING:
    from tests.servers import S3Server

pytestmark = pytest.mark.store

# The same in each run, so that a green test stays green; the command above draws new ones.
SEED = int(os.environ.get("FAULTS_SEED", "1"))


def test_a_fault_at_each_step_of_an_upload_loses_nothing_and_doubles_nothing(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    table = play(sample(random.Random(SEED), 60), seaweedfs, tmp_path, SEED)
    print(*table.lines(), sep="\n")
    # On a busy machine the short timeout of a case that hangs may end before its step.
    assert all(result.struck for result in table.results if not result.case.trouble.hangs)
    assert table.held


def test_a_fault_at_each_step_of_an_upload_that_replaces_leaves_what_the_file_holds_at_its_one_key(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    dice = random.Random(SEED)
    small = [
        case
        for case in replacing_cases()
        if case.step.scenario in ("small", "several", "failing", "unproven")
    ]
    large = [case for case in replacing_cases() if case not in small]
    table = play([*dice.sample(small, 8), *dice.sample(large, 3)], seaweedfs, tmp_path, SEED)
    print(*table.lines(), sep="\n")
    assert table.held


@pytest.mark.parametrize("operation", ["PutObject", "CompleteMultipartUpload"])
def test_an_upload_whose_successful_answer_is_cut_off_makes_one_object(
    operation: str, tmp_path: Path, seaweedfs: S3Server
) -> None:
    cases = [case_of(operation, trouble) for trouble in ("lost answer", "truncated", "torn head")]
    table = play(cases, seaweedfs, tmp_path, 1)
    assert all(result.struck for result in table.results)
    assert table.held, [str(result) for result in table.failures]
    assert all(len(seaweedfs.keys(f"out/{case.name}")) == 1 for case in cases)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a child that is killed is a fork")
def test_a_kill_in_the_midst_of_the_probe_leaves_no_upload_behind(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    steps = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload")
    cases = [case_of(f"probe of parts: {step}", "kill before") for step in steps]
    cases.append(case_of("probe of parts: CreateMultipartUpload", "kill after"))
    table = play(cases, seaweedfs, tmp_path, 1)
    assert all(result.struck for result in table.results)
    assert table.held, [str(result) for result in table.failures]
