"""What several test files share: small models, pictures, clips, and stand-ins for engines and GPUs."""
