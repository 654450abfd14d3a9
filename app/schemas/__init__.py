"""What goes in and out over HTTP. The OpenAPI document is generated from these."""
