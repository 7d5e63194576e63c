class Model:
    def __init__(self, points):
        self.points = points

    @classmethod
    def read(cls, path):
        with open(path) as file:
            return cls([float(line) for line in file])

    def fit(self):
        return sum(self.points) / len(self.points)
