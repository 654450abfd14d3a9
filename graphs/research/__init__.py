"""Research: a question, a folder of text files, an answer that says where it comes from."""
