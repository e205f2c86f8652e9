"""The export program: published weights become verified ONNX models and their manifest."""
