"""The five documents that the systems come from: what each of their sentences asks for, tried."""
