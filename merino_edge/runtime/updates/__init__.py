"""Updates that roll back: two slots, one of them active, and a power cut anywhere in between."""
