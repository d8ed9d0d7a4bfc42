//! Reloads from files to a node.
