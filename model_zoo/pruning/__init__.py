"""How many weights each layer keeps."""
