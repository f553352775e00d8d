"""What materializations and checks say of themselves in the UI."""
