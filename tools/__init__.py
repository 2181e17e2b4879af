"""What developers run: set-up, checks, measurements.  No part of the installed package."""
