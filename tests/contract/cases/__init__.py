"""The contract's cases as Python data; `tests.contract.write_vectors` turns them into the vector files."""
