"""What must outlive the process: the journal, behind one port."""
