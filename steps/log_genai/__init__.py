"""Log the GenAI pyfunc as an MLflow model."""
