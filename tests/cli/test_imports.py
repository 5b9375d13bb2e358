import subprocess
import sys

CODE = """
import sys
from nnunet_rs.cli.imports import import_lean
import_lean("nibabel")
import_lean("openvino")
print(sorted({"nibabel", "openvino", "pydicom", "openvino.tools.ovc", "openvino_telemetry"} & set(sys.modules)))
import pydicom
"""


def test_what_is_not_used_is_not_imported_and_can_be_all_the_same():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['nibabel', 'openvino']"
