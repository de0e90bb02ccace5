"""The objects that users hold: attrs classes whose fields declare the attributes they come from."""
