"""The only place of the package that names parts of Numba, llvmlite or LLVM which their documentation does not."""
