//! Wire types of the HTTP API v1, its error envelope and its typed client.
