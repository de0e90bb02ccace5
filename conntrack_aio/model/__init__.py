"""What users hold: attrs classes, whose fields declare the attributes that carry them."""
