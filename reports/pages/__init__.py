"""What pages of HTML are made of: computed here, drawn by the templates beside."""
