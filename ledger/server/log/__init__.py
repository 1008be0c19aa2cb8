"""The log on the server: appending, signing, serving, and the policies that it publishes."""
