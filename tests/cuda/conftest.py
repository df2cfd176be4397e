"""What can run here: the simulator where it was asked for, the compiler where its package is, and what needs neither."""
import os
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
EXTRA = find_spec("numba_cuda") is not None
collect_ignore = []
if SIMULATED:
    import cuda_simulator

    cuda_simulator.install()
    collect_ignore += ["test_machine_code.py", "test_device.py", "test_without_gpu.py", "test_gpu.py"]
else:
    collect_ignore += ["test_simulator.py", "test_barriers.py"]
    if not EXTRA:
        collect_ignore += ["test_machine_code.py", "test_device.py"]
