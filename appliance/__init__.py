"""The appliance: takes in, keeps and gives back what agents send. Holds no key that opens their data."""
