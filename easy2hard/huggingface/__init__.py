"""What we have to do with Hugging Face: members that are models of transformers, how they are had, how they
lie in parts over processes (FSDP), and exports."""
