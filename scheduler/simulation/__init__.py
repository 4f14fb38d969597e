"""A trace of jobs against recorded prices, through the decisions of the daemon, beside other policies."""
