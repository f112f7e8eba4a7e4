from tests.flavors import home, weights
