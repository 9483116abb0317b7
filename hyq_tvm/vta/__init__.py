"""The HyQ-VTA accelerator: its instruction set, programs, simulators and code generator.

Everything follows from two records: ``arch.VTAConfig``, the sizes of a device, and the table of
``isa.table``, from which encoder, assembler text, SystemVerilog package and docs/isa.md are made.
"""
