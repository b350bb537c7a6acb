"""What differs between operating systems, one module for each question: the rest of the agent asks here."""
