"""Compile CNN-transformer hybrids to integer-only INT8 inference with Apache TVM."""
