"""The UI as a person sees it, in headless Chromium."""
