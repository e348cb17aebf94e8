"""Transfer: a net's features on another data set, and linear support vector machines (Simonyan & Zisserman 2015, B)."""
