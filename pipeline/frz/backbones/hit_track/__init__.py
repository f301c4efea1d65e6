"""Backbone family `hit_track`: hits in, tracks out, by learned queries (see README.md)."""
