"""The training job: entity rows and a feature service in, a registered and judged model out."""
