//! teu-namespaces
