"""What runs in the user's kernel: magics, session, submission, gathering, display."""
