"""The target follows a source that goes on changing: feeds, copy, settling, and new generations after gaps."""
