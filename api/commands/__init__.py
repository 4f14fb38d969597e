"""The sub-commands of `wattmill`: thin clients of the REST API."""
