"""The TensorFlow classes, on Keras 3. Importing this package checks that TensorFlow and Keras are what they need."""

from bertconv.models import runtime as runtime
