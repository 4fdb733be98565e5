//! The broker: HTTP routes, background tasks, tunnels and connectors, assembled.
