//! Each check finds what is planted.
