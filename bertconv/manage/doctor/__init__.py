"""diagnose(): what is wrong with a checkpoint, what each program makes of it, and the command that repairs it."""

from __future__ import annotations

from bertconv.manage.doctor.diagnosis import Diagnosis, diagnose
from bertconv.manage.doctor.patient import Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
