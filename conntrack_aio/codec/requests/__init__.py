"""The requests, each made in one place, so that none can be sent that does what nobody asked."""
