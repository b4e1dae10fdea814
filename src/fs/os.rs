//! The operating system's files. (skeleton)
