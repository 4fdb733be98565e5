//! Journal and state in SQLite or PostgreSQL, in one transaction.
