"""`tunewell up`: starts and supervises the processes of a one-machine service."""
